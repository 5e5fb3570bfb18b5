"""The machine: threads, memory, files, versions, and how work is carried out."""
