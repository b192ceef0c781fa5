"""The word lists of the bundled stories: names, animals, homes, and groups of words with a similar meaning.

A list is a string of alternatives separated by `|`, as in the templates that use it (see `story_templates`).
"""

from __future__ import annotations

from functools import cache

Row = dict[str, str]


@cache
def rows(text: str) -> tuple[Row, ...]:
    """Parses a small table: a heading line, then one line per row, with cells separated by semicolons.

    The result is cached and shared, so it must not be changed. Raises ValueError for a row of another length.
    """
    lines = [[cell.strip() for cell in line.split(";")] for line in text.strip().splitlines()]
    head, body = lines[0], lines[1:]
    if any(len(line) != len(head) for line in body):
        raise ValueError(f"a row does not fit its heading: {head}")
    return tuple(dict(zip(head, line, strict=True)) for line in body)


# No name is in two of these four lists, so that a name alone tells which pronoun belongs to it.
BOYS = [
    "Tim",
    "Ben",
    "Sam",
    "Tom",
    "Max",
    "Leo",
    "Jack",
    "Finn",
    "Noah",
    "Oscar",
    "Theo",
    "Henry",
    "Luke",
    "Adam",
    "Omar",
    "Eli",
    "Jake",
    "Milo",
    "Hugo",
    "Danny",
    "Peter",
    "Billy",
    "Joey",
    "Nico",
    "Rafi",
    "Kofi",
    "Ravi",
    "Kenji",
    "Marco",
    "Diego",
    "Felix",
    "Simon",
    "Oliver",
    "George",
    "Arthur",
    "Jonah",
    "Caleb",
    "Isaac",
    "Toby",
    "Freddy",
    "Harry",
    "Lewis",
    "Mateo",
    "Anton",
    "Jasper",
    "Victor",
    "Walter",
    "Ned",
    "Andy",
    "Bobby",
    "Timmy",
    "Charlie",
    "Jamal",
    "Amir",
    "Yusuf",
    "Pablo",
    "Emil",
    "Otto",
    "Ivan",
    "Louis",
    "Nathan",
    "Owen",
    "Kevin",
    "Tyler",
    "Bruno",
    "Dylan",
]
GIRLS = [
    "Lily",
    "Mia",
    "Sara",
    "Anna",
    "Lucy",
    "Emma",
    "Zoe",
    "Ella",
    "Nora",
    "Maya",
    "Ruby",
    "Clara",
    "Sophie",
    "Molly",
    "Amy",
    "Jane",
    "Sue",
    "Kim",
    "Alice",
    "Rosa",
    "Nina",
    "Tara",
    "Leila",
    "Amina",
    "Priya",
    "Yuki",
    "Sofia",
    "Elena",
    "Carmen",
    "Greta",
    "Ida",
    "Julia",
    "Katie",
    "Maggie",
    "Penny",
    "Polly",
    "Sally",
    "Tessa",
    "Wendy",
    "Betty",
    "Ellie",
    "Fiona",
    "Hannah",
    "Isla",
    "Laura",
    "Marta",
    "Naomi",
    "Olivia",
    "Rachel",
    "Stella",
    "Chloe",
    "Eva",
    "Freya",
    "Gwen",
    "Holly",
    "Jenny",
    "Kira",
    "Lena",
    "Mina",
    "Ana",
    "Vera",
    "Zara",
    "Abby",
    "Becky",
    "Dora",
    "Edith",
]
HE_ANIMALS = [
    "Benny",
    "Chip",
    "Rusty",
    "Dusty",
    "Pip",
    "Nibbles",
    "Buddy",
    "Bramble",
    "Tuffy",
    "Scamper",
    "Rocky",
    "Barney",
    "Fuzzy",
    "Biscuit",
    "Whiskers",
    "Rufus",
    "Digby",
    "Monty",
    "Sniffles",
    "Pogo",
    "Waffles",
    "Bobo",
    "Nutty",
    "Grumbles",
    "Boots",
    "Ziggy",
    "Mugs",
    "Hopper",
    "Basil",
    "Toffee",
    "Pumpkin",
    "Teddy",
    "Wally",
    "Jumbo",
]
SHE_ANIMALS = [
    "Daisy",
    "Bella",
    "Coco",
    "Hazel",
    "Poppy",
    "Honey",
    "Willow",
    "Dot",
    "Pepper",
    "Clover",
    "Rosie",
    "Luna",
    "Mimi",
    "Cookie",
    "Peaches",
    "Fern",
    "Trixie",
    "Ginger",
    "Tilly",
    "Dolly",
    "Pearl",
    "Cleo",
    "Bluebell",
    "Minnie",
    "Flora",
    "Juniper",
    "Olive",
    "Lottie",
    "Birdie",
    "Maple",
    "Ivy",
    "Tansy",
    "Plum",
    "Snowdrop",
]
SURNAMES = [
    "Green",
    "Brown",
    "Hill",
    "Baker",
    "Miller",
    "Fisher",
    "Cook",
    "Potter",
    "Woods",
    "Bell",
    "Park",
    "Reed",
    "Stone",
    "Winter",
    "Lopez",
    "Kim",
    "Patel",
    "Singh",
    "Garcia",
    "Novak",
    "Rossi",
    "Khan",
    "Carter",
    "Fox",
    "Gray",
    "Lamb",
    "Marsh",
    "Pine",
    "Rivers",
    "Swan",
]

# What an animal looks like, where it lives, what it likes to eat, and how it gets about (in the past tense).
WOODLAND = rows(
    """
    kind; look; home; food; went
    bunny; [soft, floppy ears|long, velvety ears|a tail like a ball of cotton]; in a cozy burrow under a hill; [clover|crunchy carrots]; hopped
    mouse; [round ears and a long, thin tail|tiny pink paws]; in a neat little hole under an oak tree; [seeds|crumbs of cheese]; scurried
    squirrel; [a big, bushy tail|quick little paws]; in a hollow tree; [nuts|acorns]; scampered
    fox; [a bushy tail with a white tip|bright eyes and pointed ears]; in a den at the edge of the woods; [wild plums|ripe blackberries]; trotted
    bear cub; [thick, brown fur|a round, fuzzy tummy]; in a warm cave in the hills; [honey|sweet berries]; padded
    hedgehog; [a back full of prickles|a pointed nose and tiny feet]; under a heap of dry leaves; [fallen apples|juicy pears]; shuffled
    badger; [a black and white striped face|strong front paws]; in a deep, dry den below the roots of a beech tree; [roots|mushrooms]; trotted
    raccoon; [a ringed tail|black fur around the eyes like a mask]; in an old log by the stream; [corn|crab apples]; scampered
    fawn; [white spots and thin, wobbly legs|big brown eyes]; in a quiet part of the forest; [fresh leaves|sweet grass]; trotted
    turtle; [a hard, shiny shell|a wrinkly neck and a slow smile]; beside a stream; [lettuce|juicy leaves]; plodded
    chipmunk; [stripes down the back|cheeks that could hold ten nuts]; between the roots of a pine tree; [hazelnuts|sunflower seeds]; scurried
    mole; [velvet fur and tiny eyes|big, flat paws for digging]; in a long tunnel under the meadow; [roots|turnips]; shuffled
    """
)
WATERSIDE = rows(
    """
    kind; look; home; food; went
    duckling; [fluffy yellow feathers|a bright orange beak]; among the reeds of a pond; [pondweed|bread crumbs]; waddled
    frog; [smooth green skin|wide, golden eyes]; on a lily pad in a quiet pond; [flies|juicy bugs]; hopped
    otter; [sleek, brown fur|long whiskers]; in a snug den on the river bank; [little fish|crunchy river weed]; scampered
    beaver; [a wide, flat tail|two big front teeth]; in a lodge made of sticks; [bark|tender twigs]; waddled
    """
)
FARMYARD = rows(
    """
    kind; look; home; food; went; sound
    piglet; [a curly tail|a round, pink nose]; in a pen beside the barn; [potato peels|corn mash]; trotted; Oink
    lamb; [curly white wool|soft black ears]; in a field on a green hill; [daisies|sweet grass]; skipped; Baa
    chick; [fluffy yellow feathers|tiny feet like little stars]; in a warm coop; [corn|oats]; pattered; Cheep
    calf; [a wet, black nose|long eyelashes]; in a red barn; [fresh hay|warm milk]; trotted; Moo
    puppy; [a tail that never stopped wagging|big, clumsy paws]; in a basket by the farmhouse door; [bones|biscuits]; bounded; Woof
    kitten; [soft, gray fur|white paws like socks]; in the hay loft of a barn; [cream|bits of fish]; padded; Meow
    """
)
BIRDS = rows(
    """
    kind; look; song
    robin; a bright red chest; Tweet
    sparrow; soft brown feathers; Chirp
    bluebird; feathers as blue as the sky; Tweet
    wren; a tail that stuck straight up; Peep
    finch; a yellow stripe on each wing; Chirp
    swallow; a long, forked tail; Twitter
    """
)

CHILD_HOMES = (
    "in a small house by the sea|in a little town|in a tall house with a {@color} door|on a quiet street"
    "|in a village between two hills|in a cottage with a {@color} gate|at the end of a long lane|near the edge of a wood"
    "|in a busy city|in a little white house on a hill|next to a bakery|above a {@shop} shop|in a house with a crooked chimney"
)

# Small groups of words of like meaning, for ``{@group}`` in a template.
BANKS: dict[str, str] = {
    "color": "red|blue|green|yellow|orange|purple|pink|white",
    "shop": "shoe|toy|flower|book|hat|candy",
    "little": "little|little|little|small|young",
    "big": "big|large|huge|great big|enormous",
    "tiny": "tiny|little|small|teeny",
    "trait": "happy|cheerful|kind|curious|clever|sweet|friendly|lively|bright|gentle|funny|playful|thoughtful|merry|good",
    "glad": "happy|glad|pleased|delighted|so happy|very glad|full of joy",
    "sad": "sad|unhappy|very sad|gloomy|so sad|miserable|upset",
    "afraid": "scared|afraid|frightened|a little scared|very afraid",
    "proud": "proud|very proud|so proud|proud and happy",
    "angry": "angry|cross|mad|very cross|grumpy",
    "smiled": "smiled|grinned|beamed|gave a warm smile|smiled from ear to ear",
    "laughed": "laughed|laughed|giggled|chuckled",
    "looked": "looked|looked|peeked|peered",
    "cried": "cried|called|shouted|yelled",
    "whispered": "whispered|said softly|said in a tiny voice|said quietly",
    "day": "One day|One day|One morning|One afternoon|One Saturday|One Monday morning|One day after breakfast"
    "|Early one morning|One quiet afternoon|One day after lunch|One Sunday",
    "fine": "One sunny morning|One bright day|One warm afternoon|One fine day|On a sunny Saturday|One lovely spring day"
    "|On a warm summer morning|One clear, bright morning|One day, when the sun was shining",
    "night": "One night|Late one night|One dark night|One quiet night",
    "sky": "The sky was as blue as a robin's egg.|A soft wind moved the leaves.|Fat white clouds floated by."
    "|The air smelled of fresh grass.|Birds were singing in every tree.|The sun felt warm on {h.his} face."
    "|Bees were humming in the flowers.|A butterfly fluttered past.|It was the kind of day that makes you want to skip."
    "|Two butterflies danced over the daisies.|The sun made gold spots on the ground.",
    "wow": "Wow|Oh my|Hooray|Oh boy|Yippee|Goodness",
    "ohno": "Oh no|Oh dear|Uh-oh|Dear me|Oh, no, no",
    "yum": "It was [warm and sweet|soft and sticky|crunchy and sweet].|It tasted [wonderful|delicious|like summer]."
    "|[Every|Each] bite was [delicious|yummy|a treat].|Nobody left a single crumb.",
    "treat": "apple pie|warm bread and jam|pancakes|oatmeal cookies|cherry tarts|banana bread|cinnamon rolls|hot soup"
    "|buttered toast|plum cake|rice pudding|cheese sandwiches",
    "thanks": "Thank you|Thank you so much|Thanks|Oh, thank you",
    "heart": "{^h.his} heart [went thump, thump, thump|beat fast|pounded like a drum|jumped].",
    "soon": "Soon|Before long|After a while|In a little while|A few minutes later|It was not long before",
    "then": "Just then|At that moment|Suddenly|All at once|Right then|All of a sudden",
    "wait": "{^h.he} waited and waited.|{^h.he} counted to ten.|{^h.he} took a deep breath.|{^h.he} sat down to think.",
    "years": "three|four|five|six",
    # A place where one paragraph may end and another begin.
    "~": " |\n",
}


def _same() -> tuple[tuple[str, ...], ...]:
    """Parses lists of phrases with the same meaning, each also with a capital letter."""
    groups = [group.split("|") for group in _SAME_TEXT.strip().splitlines()]
    both = [
        tuple(change(way) for way in group)
        for group in groups
        for change in (str, lambda way: way[0].upper() + way[1:])
    ]
    return tuple(dict.fromkeys(both))


# Wherever the first phrase of a line occurs in a template, any phrase of that line may replace it.
_SAME_TEXT = """
did not|didn't|did not
could not|couldn't|could not
was not|wasn't|was not
were not|weren't|were not
do not|don't|don't|do not
does not|doesn't|does not
had not|hadn't|had not
would not|wouldn't|would not
cannot|can't|cannot
I am|I'm|I am
you are|you're|you are
we are|we're|we are
it is|it's|it is
that is|that's|that is
I will|I'll|I will
we will|we'll|we will
everyone|everybody
everybody|everyone
nobody|no one
began to|started to
at last|finally
all at once|suddenly
for a long time|for a long while|for quite a while
one after the other|one by one
one after another|one by one
bit by bit|little by little|slowly
the next day|the next day|the day after|the following day
was very|was very|was really|was so
were very|were very|were really|were so
felt very|felt very|felt really|felt so
ran to|ran to|hurried to|rushed to
softly|quietly|softly
tummy|belly|tummy
a small|a small|a little|a tiny
a big|a big|a large|a great big
until|till|until
out of breath|panting
looked around|looked around|looked about
right away|at once|right away
jumped up|leaped up|jumped up
shouted|shouted|yelled
every day|every day|each day
every morning|every morning|each morning
every evening|every evening|each evening
every night|every night|each night
every time|every time|each time
came back|came back|returned
for a moment|for a moment|for a second|for a bit
afraid|afraid|scared|frightened
cross|cross|angry|grumpy
whispered|whispered|murmured
ran away|ran away|ran off
came closer|came closer|came nearer
that night|that night|that same night
from that day on|from that day on|from then on
from then on|from then on|from that day on
looked up|looked up|glanced up
looked down|looked down|glanced down
turned around|turned around|spun around
sat down|sat down|plopped down
a lot of|lots of|a lot of|plenty of
again and again|over and over|again and again
as if|as though
fell asleep|fell asleep|dozed off
next to|beside|next to
beside|beside|next to
under the|under the|beneath the
they all|they all|all of them
each other|each other|one another
maybe|maybe|perhaps
hello|hello|hi
let us|let's|let us|let's
there is|there's|there is
what is|what's|what is
he is|he's|he is
she is|she's|she is
they are|they're|they are
you will|you'll|you will
I would|I'd|I would
stared|stared|gazed
at the same time|at the very same time|at the same time
thought about it|thought about it|thought it over
terrible|terrible|dreadful|awful
wonderful|wonderful|lovely|marvelous
pulled and pulled|pulled and pulled|tugged and pulled|pulled and tugged
fetched|fetched|got
"""
SAME = _same()
