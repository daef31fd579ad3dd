"""The one table of tolerances. Nothing else in the tests says how close is close enough.

An error is relative to the largest absolute value expected, unless a name says otherwise.
"""

import torch

# Logits of two correct implementations. float32: sums in another order over tens of layers differ
# by a few 1e-6 here. bfloat16 (8 bits): products round differently for other numbers of rows.
RELATIVE_LOGITS = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 8e-2}

# The same where a router chooses experts in bfloat16: next to a tie, one rounding chooses another
# expert, and the token's logits move at once.
RELATIVE_LOGITS_EXPERTS = 0.32

# The same where keys and values are stored small: a number that lies between two storage steps
# falls to either side by the last bit of a float32 sum, and moves by a whole step.
RELATIVE_LOGITS_STORED = {"float32": 1e-4, "bfloat16": 5e-3, "fp8": 8e-2, "int8": 2e-2}

# Gradients of the same loss in float64, added up in another order.
RELATIVE_GRADIENT = 1e-8

# One operation against its sequential definition in float64.
RELATIVE_OP = {torch.float64: 1e-12, torch.float32: 2e-5}

# One operation whose result is rounded to fewer bits: a few units of the last of 8 (11) bits.
RELATIVE_ROUNDED = {torch.bfloat16: 2**-7, torch.float16: 2**-10}

# A convolution by FFT: rounding is relative to the largest output of the row, and grows with its length.
RELATIVE_FFT = {torch.float64: 1e-10, torch.float32: 5e-5}

# A recurrence over thousands of steps whose decays lie next to one: float32 sums of L terms.
RELATIVE_LONG = 2e-4

# Storage formats of keys and values, relative to the largest value of a head: int8 has 127 steps,
# of which rounding costs half a one; e4m3 has 3 bits after the leading one.
RELATIVE_STORED = {"float32": 0.0, "bfloat16": 2**-8, "float16": 2**-11, "fp8": 2**-4, "int8": 0.5 / 127}

# Perplexity on real text against another implementation in float32.
RELATIVE_PERPLEXITY = 1e-3

# Absolute, on probabilities of a tagger: float32 sums in another order over six layers give a few 1e-6.
ABSOLUTE_PROBABILITY = 1e-5

# Mean Kullback-Leibler divergence of next-token distributions, bfloat16 against float32, of small
# random models: 8 bits of mantissa through a few layers.
DIVERGENCE_BFLOAT16 = 2e-3

# llama.cpp keeps keys and values in float16 and multiplies by tables of rounded exponentials.
RELATIVE_LOGITS_GGUF_PEER = 5e-3

# How often a token is drawn against its probability, in standard deviations of the count. The draws are
# seeded, so this never flickers; it is as wide as a correct sampler may fall on one of some hundred tokens.
SAMPLING_DEVIATIONS = 4

# GGUF files hold a Mamba's A as -exp(a_log) in float32: an exponential and a logarithm back.
RELATIVE_A_LOG = 1e-6

# Half a step of int8 and the rounding of its scale to 11 bits, relative to the largest number of a group.
RELATIVE_INT8_STEP = 0.5 / 127 + 2**-11

# Mean Kullback-Leibler divergence of next-token distributions of small random models, weights quantized
# to nearest: the square of the steps (1/127, 1/8 of a group's largest number, 1/16 of a number) through a few layers.
DIVERGENCE_QUANTIZED = {"int8": 2e-3, "int4": 0.2, "fp8": 3e-2}

# Losses of a float32 run whose gradients are added up over processes in another order, over a few steps.
RELATIVE_LOSS_SPREAD = 1e-5

# Mean Kullback-Leibler divergence of next-token distributions of a real model, weights in fp8 with scales against the
# weights that they were made from: three bits of mantissa a number, whatever the layout of the scales.
DIVERGENCE_FP8_CHECKPOINT = 0.01

# Hankel singular values against those of closed forms in float64, relative to the largest.
RELATIVE_HANKEL = 1e-9

# Filters of known modes found again, relative to their norm: poles and residues are stored in float32.
RELATIVE_MODES = 1e-6
