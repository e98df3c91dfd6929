"""Looking at an archive: does it behave like weather, what do its variables say, and what is its rain grid?"""
