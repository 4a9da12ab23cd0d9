"""Jobs: pretraining, fine-tuning, few clicks and maps beside the notebook."""
