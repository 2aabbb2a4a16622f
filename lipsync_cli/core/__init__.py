"""What every layer may use: errors and exit codes, times, devices, progress, safe output, configuration."""
