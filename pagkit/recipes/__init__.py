"""The recipes that come with the library, one YAML file each; ``keys`` lists what the mappings inside a recipe may say."""
