"""The large-scale job: labels of many images as one COCO file, and exports of it."""
