"""Does pre-training help dense tasks, and what does a batch of 2 do under each norm?"""
