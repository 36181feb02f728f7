"""A second implementation of the wire format, in another language, from docs/FORMAT.md alone.

The scripts beside this file share nothing with the project's code. `judge.js` judges the vectors;
`puller.js` and `agent.js` talk to the other side of the real line.
"""
