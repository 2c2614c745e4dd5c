"""The classes and subcategories, and what is said of them."""
