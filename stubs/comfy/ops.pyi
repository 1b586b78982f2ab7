class manual_cast: ...  # a namespace of layer classes
