"""What people see: one page, and a form for the token where one is wanted."""
