"""What each layer's residual stream holds: probes that are trained, with the controls that say what that is worth."""
