"""The embedded farm, and the `rendermill` command. May import shared and client, never api or worker."""
