"""What a person should know of data before training on it: measures, flags with advice, one page.

`build.report_on` reads rows once and holds none of them but a sample of bounded size. Each measure is a file: `look` is
called for every row, `result` once at the end; what is out of bounds becomes a flag with a sentence of advice.
"""
