"""Files of tens of thousands of requests: read, handed in as batches, followed, saved, and gone on with.

sources    a file or standard input as lines
plan       lines into the files of batches, and an index of them
state      what is known of a submission, on disk
hand_in    files into batches, each once
follow     finished jobs into pictures and results, each once
ledger     what became of each line, on disk
display    how far it is, on the terminal
"""
