"""What two or more rooms truly share."""
