"""What the page of a grid of this study shows beside what every grid has."""
