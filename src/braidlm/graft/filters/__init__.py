"""Long convolutions turned into recurrences: filters from anywhere, the order that they need, modes, what was lost.

`sources` finds filters in files of arrays, in published implicit filters, in runs and in models; `distill` chooses an
order and fits modes; `report` says what they leave out. The mathematics is `train.modal`'s, which fits modes to the
implicit filters of a run at its end, too.
"""
