"""SCS-Net: its architecture, its synthetic training data, its training and its inference."""
