"""Tasks whose answers lie in the image: masks, boxes."""
