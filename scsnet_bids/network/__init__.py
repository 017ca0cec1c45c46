"""SCS-Net: its architecture, its weights, and how it finds a cord and its regions."""
