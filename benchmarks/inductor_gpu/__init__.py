"""TorchInductor's schedule for a GPU, read in a process that only believes in one."""
