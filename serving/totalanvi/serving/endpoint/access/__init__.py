"""Who may ask an endpoint: keys, what each of them may use, and the headers that keep browsers out."""
