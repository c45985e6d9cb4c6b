"""What the processes of the pipeline have to agree on. Imports none of the other packages."""
