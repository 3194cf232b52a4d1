"""Ways of making a model smaller: a loaded, whole model in, a folder out that `nacre.model.load` loads."""

from nacre.base.plugins import Table

COMPRESSIONS = Table(
    "compression",
    {
        "int4": "nacre.model.smaller.int4:Int4",
        "int8": "nacre.model.smaller.int8:Int8",
        "merged": "nacre.model.smaller.merged:Merged",
        "pruned": "nacre.model.smaller.pruned:Pruned",
    },
)
