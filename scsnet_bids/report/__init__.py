"""One page per participant, made of what the runs left in the output folder."""
