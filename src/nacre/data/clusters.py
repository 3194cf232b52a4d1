"""Groups of texts that use like characters, found by k-means on hashed character pairs and triples."""

from collections.abc import Sequence

from sklearn.cluster import MiniBatchKMeans
from sklearn.feature_extraction.text import HashingVectorizer

from nacre.base.hashing import sha256_text

_FITTED_TEXTS = 5_000  # clusters are found on at most so many texts, and the others put to them


def text_clusters(texts: Sequence[str], count: int, seed: int) -> list[int]:
    """The cluster of each text, 0 to `count` - 1; the same for the same texts in any order."""
    order = sorted(range(len(texts)), key=lambda place: sha256_text(f"{seed}/{texts[place]}"))
    vectors = HashingVectorizer(analyzer="char", ngram_range=(2, 3), n_features=2**12).transform(texts)
    means = MiniBatchKMeans(count, random_state=seed, n_init=3).fit(vectors[order[:_FITTED_TEXTS]])
    return [int(label) for label in means.predict(vectors)]
