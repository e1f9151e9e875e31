"""What is done before the toy is trained."""
