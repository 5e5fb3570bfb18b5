"""The map of an image: which phases it shows, where, and how sure that is."""
