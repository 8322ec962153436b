"""What is made of a run for people: report.html, the model card, their images and words."""
