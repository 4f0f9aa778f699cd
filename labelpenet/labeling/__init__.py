"""Labelling many images into one COCO file: runs that resume, and exports of what they wrote."""
