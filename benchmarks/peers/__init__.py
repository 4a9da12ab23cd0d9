"""Models that TiMo is compared with, written from their papers, and the conditions that all are tested under."""
