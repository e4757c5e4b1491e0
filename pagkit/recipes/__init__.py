"""The recipes that come with the library, one YAML file each; ``keys``: what the mappings inside may say, ``text``: how they are read."""
