"""Which base model, tuner, precision, batch and length fit a task, its rows and the hardware: nothing is loaded.

`advise` in `choose` is the call; `families` has the table of open models, `hardware` and `workload` what they must fit.
"""
