"""What has been measured of a model: profiles, how they merge, what is shown of them."""
