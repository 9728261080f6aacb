"""Who is logged in where: the rules, and the code that carries them out."""
