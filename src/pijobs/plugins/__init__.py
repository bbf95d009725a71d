"""Who brings jobs: plugins are found, loaded, called by hooks, and their jobs registered."""
