"""What a person looks at: pictures of labels, and the page of a labelling job."""
