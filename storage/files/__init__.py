"""Files that are written whole and read with care: JSON, CSV, images, checksums."""
