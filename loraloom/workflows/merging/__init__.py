"""What `merge` is made of: the folder, the proof, the words about them."""
