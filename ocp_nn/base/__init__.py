"""What every room needs and none owns: checks of arguments, short displays, whole files, locks.  Nothing numerical."""
