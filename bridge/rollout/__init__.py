"""Wake-word models brought to devices, some at first."""
