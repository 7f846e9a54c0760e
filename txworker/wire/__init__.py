"""Words both ways, side by side: values and messages, errors and statuses."""
