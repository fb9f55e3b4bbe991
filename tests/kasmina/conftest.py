"""One thread for torch: these networks are small, and the tests run side by side."""

import torch

torch.set_num_threads(1)
