"""Files of named tensors: one format a module, each with a reader that knows how to write its like."""
