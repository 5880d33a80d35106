"""What goes in and out over HTTP: Create, Update and Public shapes, apart from the tables."""
