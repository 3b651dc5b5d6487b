//! What is wrong with a resource, in the words of its writer.
