"""One autoscaler per file, all with one interface: what is known in, a plan out."""
