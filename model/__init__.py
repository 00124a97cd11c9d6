"""SegGPT in PyTorch: the network, its checkpoints, segmentation and tuning; knows nothing of Label Studio."""
