"""Grids: one config that describes many runs, what became of them, and what had to come out.

===================================================  =========================================
question                                             module
===================================================  =========================================
Which runs does the section ``grid`` describe?       `expand`; `exclude`: and which not
What are their names, and their configs?             `names`; `layers`: what configs share
May one kind of run start from another?              `arms`
What is made once, before any of the runs?           `needs`
Can what is to be done to the models be done?        `starts`, before anything runs
What will it cost?                                   `estimate`
What may a claim say, and of which runs?             `expect`, read before anything runs; `bounds`
By which values does a claim choose its runs?        `chosen`
What do the finished runs measure?                   `results`: a row a run, means over seeds
Do they measure on the same? Made with what?         `measured`; `made`: commits, versions
What does one run, or a pair, say of a claim?        `values`
Does a claim hold for the grid, with its seeds?      `verdict`
For how many seeds does it hold?                     `success`
How is that told, and written into the folder?       `verdict_table`
What is printed and written when runs have ended?    `outcome`; `sections`: what its page shows
What is kept of it with the study, in git?           `record`
Is what was recorded of this grid, as it is now?     `identity`: hashes of runs and claims
What do all grids of a checkout claim, and hold?     `book`
What does ``nanollama grid VERB`` do?                `commands`
===================================================  =========================================

`nanollama.launcher.plan` puts a grid together; `nanollama.launcher.local` and `.slurm` run it.
"""
