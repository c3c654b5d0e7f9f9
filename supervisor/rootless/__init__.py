"""User namespaces: id maps, namespace handles, joining again."""
