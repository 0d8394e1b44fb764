"""What is studied: parameters, validation and pointwise facts."""
