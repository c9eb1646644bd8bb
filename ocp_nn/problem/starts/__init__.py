"""Where the identification of a state-space model starts: parameters and hidden states from the records alone."""
