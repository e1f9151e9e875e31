"""In-weight or in-tool: what does it cost a model to memorise facts, and to ask a database for them?"""
