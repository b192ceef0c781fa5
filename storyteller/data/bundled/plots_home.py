"""Plots about the house and the family: lost things, broken things, cakes, noises in the night."""

from __future__ import annotations

from storyteller.data.bundled.story_templates import TemplateFiller
from storyteller.data.bundled.word_banks import rows

SOFT_TOYS = rows(
    """
    toy; part; name
    teddy bear; ear; Button
    rag doll; arm; Dolly Dot
    stuffed rabbit; leg; Captain Carrot
    toy elephant; trunk; Mister Gray
    cloth monkey; tail; Bongo
    stuffed lion; paw; Roary
    knitted penguin; wing; Waddle
    toy giraffe; neck; Stretch
    """
)


def lost_toy(t: TemplateFiller) -> None:
    """A toy is gone; clues lead to whoever took it, and why."""
    t.child("h")
    t.row("toy", SOFT_TOYS)
    t.begin(
        "[had a|owned a|loved {h.his}] {toy} [called|named] {toy.name}",
        "{toy.name} was a {toy}, and {h} was a {h.kind} who could not sleep without {h.his} {toy}.",
    )
    t.aside(
        "{h} took {toy.name} [to bed, to the table, and even to the bath|everywhere, even to the dentist].",
        "They [did everything together|went everywhere together]. <{toy.name} [had only one eye|smelled a bit of "
        "soap|was worn thin from hugs], but {h} did not mind.>",
        "[Every night|At bedtime] {h} tucked {toy.name} in and [whispered a secret|told a joke|sang a short song].",
    )
    t.say(
        "{@day}, {h} [woke up|came home|came in from the yard] and {toy.name} was gone! {h.he} looked [under the "
        "bed|behind the curtain|in the closet] and [under the rug|behind the door|in the toy box]. No {toy}. "
        '"{@ohno}!" {h.he} {@cried}. "Where [are you|did you go], {toy.name}?"',
        "{@day}, the pillow was empty. {toy.name} was not [there|on the bed]. {h} {@looked} [under the "
        "blanket|into every drawer|behind the chair]. {h.he} felt {@sad}, and {h.his} [chin|lip] began to shake. "
        '"{toy.name} is lost," {h.he} {@whispered}.',
    )
    who = t.one_of(("puppy", "baby", "cat", "granny"))
    if who == "puppy":
        t.let(pet="[Rags|Bingo|Muffin|Patch|Scout]")
        t.say(
            "Then {h} saw a muddy paw print on the floor. [A little farther on|By the stairs] there was another "
            'one. "[Clues|A clue|Aha]!" said {h}. {h.he} followed the prints [down the hall|past the kitchen] '
            "and out to the dog basket. There lay {pet} the puppy, fast asleep, with {toy.name} [under one "
            "paw|between two paws|under its chin].",
        )
        t.go_on(
            '"[Poor {pet}|Oh, {pet}]! You [were lonely|wanted a friend too]," said {h}. {h.he} was not {@angry} '
            "any more.",
            "{h} wanted to be {@angry}, but the puppy looked so [cozy|sweet and warm] that {h.he} {@laughed} instead.",
        )
        t.say(
            "{h} found [an old sock|an old slipper|a worn mitten], filled it with rags, and tied a knot in it. The "
            "puppy [wagged its tail|licked {h.his} hand]. Now {pet} had a toy, {h} had {toy.name}, and everybody "
            "slept well.",
            "{h} took {toy.name} back very gently and gave {pet} a [soft ball|rope to chew] instead. After that, {h} "
            "[always|never forgot to] put {toy.name} on the [high shelf|top bunk] at breakfast time.",
        )
    elif who == "baby":
        t.add("b", "the baby", "baby", t.one_of(("he", "she")))
        t.say(
            "On the floor {h} saw a [cookie|cracker|toast] crumb. Then {h.he} saw another, and another. They made "
            "a trail [to the kitchen|all the way to the kitchen door]. {h} followed it like a detective. In the "
            "kitchen sat the baby, banging on a [big pot|soup pot]. {h} lifted the lid. {toy.name} was inside, "
            "[wrapped in a towel|with a spoon for a pillow]!",
        )
        t.go_on(
            '"Night-night," said the baby [proudly|and pointed at the {toy}]. {h} had to laugh. {^b.he} had put '
            "{toy.name} to bed!",
            '"Shh," said the baby with a finger on {b.his} lips. "Sleep."',
        )
        t.say(
            '{h} gave the baby a kiss. "You are [a good nurse|good at this]," {h.he} said. {@soon} they were both '
            "tucking {toy.name} in again, this time in a real bed.",
            "So {h} [found|fetched] a small [duck|doll|bear] for the baby, and the two of them put all the toys to "
            "bed in pots, one by one. {h.his} {mom} had to wait a long time to cook that night.",
        )
    elif who == "cat":
        t.let(cat="[Misty|Smoky|Tiger|Mittens|Pickles]")
        t.say(
            'Then {h} found [some gray hairs|a few gray hairs] on the pillow. "Hmm," said {h}. "I do not have '
            'gray hair. But I know somebody who does!" {^h.he} [looked for|went to find] {cat} the cat. {cat} was '
            "not on the sofa. {cat} was not on the window sill. At last {h} heard a [soft purr|tiny mew] from the "
            "laundry basket.",
        )
        t.go_on(
            "There was {cat}, curled around {toy.name}, and next to {cat} lay three [new|tiny] kittens!",
            "{h.he} lifted a shirt and gasped. {cat} had four kittens, and {toy.name} was keeping them warm.",
        )
        t.say(
            '"You needed {toy.name} more than I did," said {h} softly. {h.he} let the kittens keep the {toy} for '
            "[one week|a few days]. When {toy.name} came back, {h} thought the {toy} smelled of milk and purring.",
            '{h} brought {cat} a [saucer of milk|bowl of fish] and sat down beside the basket. "{toy.name} can '
            'stay for now," {h.he} said. "[Babies need a friend|I can wait]."',
        )
    else:
        t.elder("g")
        t.say(
            "Then {h} saw a bit of {@color} thread on the floor. There was more thread on the stairs. {h.he} "
            "followed it up, up, up to {g}'s room. The door was open. {g} sat by the window with a needle in one "
            "hand and {toy.name} in the other.",
        )
        t.go_on(
            '"I saw that the {toy.part} was [loose|about to fall off]," said {g}. "I wanted to mend it before you '
            'missed your {toy}."',
            '"You are too early!" said {g} with a laugh. "The {toy.part} was coming off, and I am sewing it back on."',
        )
        t.say(
            "{h} hugged {g} and then {toy.name}. The {toy.part} was as good as new. [In the evening|That night] "
            "{h} [held|tucked in] {toy.name} extra carefully, and {h.he} dreamed of thread that went all around "
            "the world.",
            '{h} watched the last stitch go in. "Can you teach me to sew?" {h.he} asked. So {g} found a '
            "[thick|big] needle, and together they made a tiny {@color} [scarf|blanket|hat] for {toy.name}.",
        )


BREAKABLES = rows(
    """
    thing; use
    vase; It held {@color} [flowers|tulips|roses] from the garden.
    teapot; It had a picture of a [bird|boat|rose] on it.
    blue bowl; It stood on the table, full of [pears|oranges|apples].
    lamp; It had a [yellow|pink] shade and made a warm light.
    big white plate; It was only used on birthdays.
    glass jar; It was full of [buttons|shells|candy].
    clay pot; A little [cactus|fern] grew in it.
    """
)


def broken_vase(t: TemplateFiller) -> None:
    """Something breaks; a lie is easy, and the truth is better."""
    t.child("h")
    t.row("thing", BREAKABLES)
    t.parent("p")
    t.let(play="[[threw|bounced|kicked] a ball|spun around like a top|played horse with a broom|danced with a pillow]")
    t.begin(
        "[loved to play|liked to run and jump|was never still for long]",
        '{h} knew the rule. "No [wild games|running] in the living room," {h.his} {p} always said.',
    )
    t.go_on(
        "In {h.his} house there was a {thing}. {thing.use} {h.his} {p} loved it very much.",
        "On the shelf in the living room stood {h.his} {p}'s favorite {thing}. {thing.use}",
    )
    t.say(
        "{@day}, {h} {play} in the living room. Round and round {h.he} went. Crash! The {thing} fell [on|to] the "
        "floor and broke [in two|into three pieces|into many pieces].",
        "{@day}, it was raining and {h} had to stay inside. {h.he} {play}, even though {h.he} knew it was not "
        "allowed. [Bump|Bang]! Down came the {thing}. It broke with a [terrible|loud] crash.",
    )
    t.aside('<{@heart}> "{@ohno}," {h} {@whispered}.', "{h} stood very still. <{@heart}>")
    if t.chance(0.55):
        t.let(blamed="[cat|dog]")
        t.say(
            '{h.his} {p} came in. "What happened?" {p.he} asked. {h} looked at {h.his} feet. "The {blamed} did '
            'it," {h.he} said. So the {blamed} had to [go outside|stay out in the yard]. {h} [saw|watched] it '
            "through the window. It looked {@sad}, and it did not know why.",
            '{h} pushed the pieces under the [rug|sofa]. When {h.his} {p} found them, {h} said, "It was the '
            '{blamed}!" {^h.his} {p} frowned and sent the {blamed} out of the house. The {blamed} '
            "[scratched|cried] at the door.",
        )
        t.say(
            "{h} could not [eat {h.his} supper|play any more|enjoy {h.his} book]. There was a [heavy stone|hard "
            'lump|bad feeling] in {h.his} tummy. At last {h.he} went to {h.his} {p}. "It was not the {blamed}," '
            '{h.he} said. "It was me. I am sorry I broke it, and I am sorry I [told a lie|fibbed]."',
        )
        t.let(
            last="Then {h} ran to the door to let the {blamed} in, and [gave it the biggest hug|shared a biscuit "
            "with it]."
        )
    else:
        t.say(
            "{h} wanted to [hide|run away]. {h.he} thought about hiding the pieces [under the bed|in the "
            "trash|behind the sofa]. But then {h.he} thought of {h.his} {p} looking for the {thing} everywhere. "
            '{@wait} Then {h.he} went to find {p.him}. "I broke your {thing}," said {h} [in a small voice|with '
            'tears in {h.his} eyes]. "I am very sorry."',
        )
        t.let(
            last="{h} [gave|emptied] {h.his} [penny jar|piggy bank] to help [buy a new one|pay for a new one], but "
            "{h.his} {p} [only took one penny|gave most of it back]."
        )
    t.say(
        '{h.his} {p} was quiet for a moment. "I am sad about the {thing}," {p.he} said. "But I am [glad|proud] '
        'that you told [me the truth|me]. That was [hard|brave]."',
        '{h.his} {p} sat down and took {h.his} hand. "A {thing} can be [mended|glued|bought again]," {p.he} '
        'said. "[Telling the truth is worth more than that|I would rather have your true words than any '
        '{thing}]."',
    )
    t.go_on(
        "{last}",
        "They [swept|picked] up the pieces together, and [then they went outside to play ball|{h} held the dustpan].",
        "Together they glued the pieces, one by one. The {thing} had [cracks|lines] all over it now, but {h.his} {p} "
        "[put it back on the shelf|said it looked even better].",
        "{last}",
    )


NOISES = rows(
    """
    noise; maker; why
    Scratch, scratch, scratch; a {@tiny} mouse; It was [pulling a cracker across the floor|making a nest out of old paper]
    Tap, tap, tap; the branch of the apple tree; It was [knocking on the glass|dancing in the wind]
    Drip, drop, drip, drop; the kitchen tap; It was [dripping into a pan|not quite closed]
    Rumble, rumble, grrr; Grandpa; He was asleep in the big chair and [snoring with his mouth open|snoring like a bear]
    Thump, thump, thump; the dog; It was dreaming, and its tail was [hitting|beating on] the floor
    Squeak, squeak, squeak; the hamster; It was [running in its wheel|having a midnight race in its wheel]
    Clunk, clink, clunk; a fat raccoon; It had its head stuck in [an empty jam jar|a tin can]
    Hoo, hoo, hoo; a baby owl; It was sitting on the window sill and [asking for its mother|looking for its supper]
    Creak, creak, creak; the old rocking chair; The cat was [rocking in it|using it as a swing]
    Flap, flap, flap; a wet sheet; It was hanging on the line and [waving at the moon|flapping in the wind]
    """
)


def night_noise(t: TemplateFiller) -> None:
    """A scary noise at night turns out to have a funny cause."""
    t.child("h")
    row = t.row("noise", NOISES)
    t.begin(
        "[was not afraid of anything, or so {h.he} said|slept in a room at the top of the stairs|did not like the "
        "dark|always slept with a small lamp on]",
        '"I am not afraid of the dark," said {h}. {h.he} was a {h.kind} of {@years}. "I just like to have the '
        'lamp on."',
    )
    t.say(
        '{@night}, {h} [woke up|was lying in bed] and heard a [strange|funny|scary] sound. "{noise}." {h} pulled '
        'the blanket up to {h.his} [nose|chin]. <{@heart}> "{noise}." [There it was again|{h} heard it '
        "again|Again that sound]!",
        "{@night}, [the moon was hidden behind a cloud|the wind was blowing|the house was very still]. "
        '"{noise}." [What was that|What could it be|Who was there]? {h} opened one eye. "{noise}." {h.he} felt '
        "{@afraid}.",
    )
    t.aside(
        '"It must be a [monster|ghost]," {h.he} thought. "A [big, hairy|hungry|great green] one."',
        "Was it a [monster|witch|ghost]? Was it a [hungry wolf|tiger|dragon] with [long teeth|sharp claws]?",
        '"Maybe it is a [robber|pirate]," {h.he} thought, "and maybe big and mean."',
    )
    if row["maker"] != "Grandpa" and t.chance(0.4):
        t.child("s")
        t.say(
            '{h} ran to wake {h.his} {s.sib}, {s}. "There is something [out there|in the house]," {h.he} '
            '{@whispered}. {s} rubbed {s.his} eyes. "Let us go and look together," {s} said. They held hands and '
            "took {s.his} flashlight.",
            '"{s}! Wake up!" said {h} to {h.his} {s.sib}. "Do you hear it?" {s} did. They were both {@afraid}, '
            "but two are braver than one. They [took|picked up] a [pillow|broom|tennis racket] and tiptoed out.",
        )
        t.slots["they"], t.slots["all"] = "they", f"{t.slots['h']} and {t.slots['s']}"
    else:
        t.say(
            '{h} wanted to call {h.his} {mom}. But then {h.he} thought, "I will just take one look." {h.he} took '
            "{h.his} [flashlight|little lamp|pillow] and put on {h.his} slippers. Step by step, {h.he} crept [down "
            "the stairs|along the hall].",
            '"I will be brave," {h} told {h.his} [teddy|pillow|toes]. {h.he} got out of bed. The floor was '
            "[cold|as cold as ice|cold and hard]. One step, two steps, three steps. The noise got [louder|louder "
            "and louder|closer].",
        )
        t.slots["they"], t.slots["all"] = t.slots["h.he"], t.slots["h"]
    t.say(
        '"{noise}." {all} [turned on the light|peeked around the corner|counted to three and looked]. And what '
        "did {they} see? It was only {noise.maker}! {noise.why}.",
        "The light [clicked|went] on, and there was no [monster|ghost|giant] [at all|anywhere]. There was "
        "{noise.maker}. {noise.why}.",
    )
    t.go_on(
        '{all} {@laughed} so [hard|loudly] that {h.his} {mom} woke up too. "What is so funny?" she asked from '
        "the stairs.",
        '"[So you are my monster|You gave me a fright|Is that all]!" said {h}, and {h.he} {@laughed}.',
        "First {all} stared. Then {they} {@laughed} until [it hurt|the tears came].",
    )
    t.say(
        'Back in bed, {h} heard it again. "{noise}." This time {h.he} only smiled, turned over, and fell asleep.',
        "[After that|From then on], when {h} heard a noise at night, {h.he} [went to look before being "
        "afraid|remembered that night and smiled].",
        "{h} drank a cup of warm milk and went back to bed. <In the morning {h.he} told everyone about the "
        'monster.> "[It was very big|It was the scariest one ever]," {h.he} said [at breakfast|over pancakes], '
        "and winked.",
    )


def crayon_argument(t: TemplateFiller) -> None:
    """Two children quarrel over one crayon, and find out what happens when they stop."""
    t.child("h")
    t.child("f")
    t.let(col="{@color}", tie="[friend|cousin|neighbor]")
    t.row(
        "pic",
        rows(
            """
            pic; one; two
            castle; tall towers; a deep moat with fish
            ship; a striped sail; waves with dolphins
            dragon; a long, curly tail; fire and smoke
            zoo; a giraffe; a family of bears
            garden; a row of sunflowers; a pond with frogs
            city; a very long train; a hundred little windows
            """
        ),
    )
    t.begin(
        "[loved to draw|liked to color|drew pictures all day long]",
        "{h} and {f} both wanted the {col} crayon. {h} was a {h.kind} who loved to draw, and so was {h.his} {tie} {f}."
        if t.slots["h.kind"] == t.slots["f.kind"]
        else "{h} and {f} both wanted the {col} crayon, and there was only one.",
    )
    t.say(
        "{@day}, {h.his} {tie} {f} came to [play|visit]. They sat at the table with [a box of crayons|one box of "
        "crayons] and [two|some] sheets of paper. {h} [began|started] to draw a {pic}. {f} [began|started] to draw "
        "one as well.",
        "{@day}, it was too wet to go out. {h} and {h.his} {tie} {f} lay on the floor and colored. Both of them "
        "wanted to draw a {pic}.",
    )
    t.go_on(
        '"I need the {col} one," said {h}. "I had it first," said {f}. {h} pulled. {f} pulled. Snap! The {col} '
        "crayon broke [in two|in the middle].",
        'They [reached for|grabbed] the {col} crayon at the same time. "Mine!" said {h}. "No, mine!" said {f}. '
        "They pulled and pulled until it [broke|snapped] in half.",
    )
    t.say(
        "Nobody said a word. {f} looked [as if {f.he} might cry|very sorry]. {h} felt [hot and cross|bad inside]. "
        "{h.he} turned {h.his} back and drew with the [gray|brown|black] crayon, but the {pic} looked "
        "[dull|sad|wrong].",
        '"Now look what you did!" {h} {@cried}. "You did it!" {f} {@cried} back. {f} sat in one corner and {h} '
        "sat in the other. It was very [quiet|boring] in the room. <Only the clock went tick, tock.>",
    )
    t.say(
        'Then {h} looked at the broken crayon. "[Look|Hey|Wait]," {h.he} said slowly. "Now there are two of '
        'them." {f} came closer. It was true. Now they each had a {col} crayon.',
        'After a while {f} picked up the pieces. {f.he} held out the longer one. "You can have it," {f} said. '
        '"I am sorry I pulled." "I am sorry too," said {h}. "[You take the long one|Let us take turns with '
        'it]."',
        "{h.his} {mom} came in with [a plate of grapes|two glasses of milk|cookies]. She saw the two corners and "
        "did not scold. She only [laid|rolled out] one very big sheet of paper on the floor. {h} looked at {f}. "
        '{f} looked at {h}. "We could make one together," said {h}.',
    )
    t.say(
        "They pushed their papers together and made one {@big} {pic}. {h} drew {pic.one}. {f} drew {pic.two}. It "
        "was [the best picture they had ever made|much better than two small ones], and it [hung on the kitchen "
        "wall|hung by the door] [for a whole year|all winter|until it turned yellow].",
        "Side by side they drew a {pic} so [long|wide] that it [went under the table|reached the door]. It had "
        "{pic.one} and {pic.two}. When it was done, they both [signed|wrote] their names at the bottom, in {col}.",
    )
    t.go_on("", "", '<"Sharing makes it bigger," said {f}.>', '<"Tomorrow let us draw the sea," said {h}.>')


def lost_tooth(t: TemplateFiller) -> None:
    """A wobbly tooth comes out, is lost, and is not lost after all."""
    t.child("h")
    t.parent("p")
    t.let(food="[apple|carrot|pear|cookie|corn cob]")
    t.begin(
        "[had a wobbly tooth|had a loose tooth that went back and forth|wiggled {h.his} loose tooth all day]",
        '"My tooth is loose!" {h} {@cried} one morning. {h.he} ran to the mirror. "Look, it wiggles!"',
    )
    t.aside(
        "All {h.his} friends had lost a tooth, and {h} [could not wait|wanted to lose one too].",
        "{h} wiggled it [in the car|at breakfast|in the bath] and [at school|in bed|at the store]. It would not "
        "come out.",
        '"When will it fall out?" {h.he} asked every day. "When it is ready," said {h.his} {p}.',
    )
    t.say(
        "{@day}, {h} bit into a {food}. Crunch! Something felt [strange|funny|different]. {h.he} put {h.his} "
        'tongue where the tooth used to be. There was [only|nothing but] a hole! "It is out! It is out!" {h} '
        "{@cried}. But where was it?",
        "{@day}, {h} was eating a {food} [in the yard|on the steps|under the tree]. {h.he} took a big bite, and "
        'the tooth was gone. "{@ohno}!" said {h}. "[I lost my lost tooth!|Where did it go?]"',
    )
    t.say(
        "{h} and {h.his} {p} looked everywhere. They looked on the [floor|ground|steps] and [under the table|in "
        "{h.his} lap|between the stones]. They found a [button|bead|pin], a [penny|pea|nail], and [a dead bug|an "
        'old raisin], but no tooth. {h} felt {@sad}. "[What will the tooth fairy say|Now the tooth fairy will not '
        'come]?"',
        '"Did you swallow it?" asked {h.his} {p}. "I do not think so," said {h}, and a tear rolled down '
        "{h.his} cheek. They searched until [supper time|the sun went down].",
    )
    if t.chance(0.5):
        t.say(
            'Then {h.his} {p} picked up the rest of the {food} and {@laughed}. "Come and look at this," {p.he} '
            "said. There, in the middle of the bite mark, sat one [small|tiny] white tooth.",
            "{h} picked up the {food} to take one more bite, because {h.he} was still hungry. Something white was "
            "[sticking out of it|shining in it]. It was the tooth! {h.he} had left it in the {food} all along.",
        )
        t.say(
            "{h} [washed|cleaned] it and put it under {h.his} pillow. In the morning there was a [shiny|new] coin, "
            "and {h.he} [gave the mirror a big smile with a window in it|could whistle through the hole].",
            "That night {h} wrapped the tooth in [tissue|a {@color} cloth] so it could not [run away|get lost] "
            'again. <"Stay there," {h.he} told it.> The tooth fairy found it without any trouble.',
        )
    else:
        t.say(
            '"I know," said {h.his} {p}. "You can write the tooth fairy a letter." So {h} drew a picture of '
            "{h.his} mouth, with a [big black|round] hole in it, and an arrow. {h.he} put it under {h.his} pillow.",
            'So {h} made a [little|paper] map. It showed the {food}, the [yard|house], and a question mark. "Dear '
            'Tooth Fairy," {h.his} {p} wrote for {h.him}, "the tooth is here somewhere. Love, {h}."',
        )
        t.say(
            'In the morning the [letter|paper] was gone. There was a coin and a [tiny|very small] note. "I found '
            'it," said the note. "[It was behind the flower pot|It was in your pocket|A mouse showed me the '
            'way]. You have a lovely smile."',
            "When {h} woke up, there lay a coin [as bright as the sun|as shiny as a star], and [a pinch of|some] "
            "silver dust on the pillow. {h} smiled a smile with a hole in it all [day|week].",
        )


def surprise_party(t: TemplateFiller) -> None:
    """Everyone has secrets and the hero feels left out, until the door opens."""
    if t.chance(0.6):
        t.child("h")
        t.child("f")
        t.let(place="{h.his} house", age="{@years}", gift="[paper crown|drum|red scarf|box of paints|toy boat|kite]")
        t.begin(
            "[had many friends|loved to be with {h.his} friends|played with {h.his} friends every day]",
            "{h} felt left out. All {h.his} friends were whispering, and when {h.he} came near, they stopped.",
        )
    else:
        from_woods = rows(
            """
            kind; look; home; food; went
            bunny; floppy ears; in a burrow under a hill; carrots; hopped
            hedgehog; a back full of prickles; under a heap of leaves; apples; shuffled
            squirrel; a bushy tail; in a hollow tree; nuts; scampered
            bear cub; thick, brown fur; in a warm cave; honey; padded
            mouse; round ears; in a hole under an oak tree; seeds; scurried
            badger; a striped face; in a den below a beech tree; mushrooms; trotted
            """
        )
        t.animal("h", from_woods)
        t.animal("f", from_woods)
        t.let(
            place="{h.his} home",
            gift="[paper crown|red scarf|crown of daisies|basket of {h.food}|tiny drum|soft pillow]",
        )
        t.begin("[had many friends in the forest|loved to be with {h.his} friends]")
    t.say(
        '{@day}, {h} asked {f} to play. "I can\'t," said {f}. "I am busy." {f.he} [hid something behind {f.his} '
        "back|looked away|ran off quickly]. Then {h} asked the others. They were busy too. [One of them "
        "giggled|They all looked at each other].",
        '{@day}, {h} saw {f} [talking|whispering] with the others. "What are you doing?" asked {h}. "Nothing!" '
        "said {f}, and everyone became very quiet. {h} saw a bit of {@color} ribbon, but {f} [sat on it|put it "
        "away].",
    )
    t.go_on(
        "It was {h.his} birthday, and it seemed that nobody [knew|remembered].",
        "{h} felt {@sad}. Today was {h.his} birthday. Had everyone forgotten?",
        '"They do not like me any more," {h} thought, and {h.his} throat felt tight. "And on my birthday, too!"',
    )
    t.say(
        "{h} went [for a walk by the stream|to sit under a tree|up the hill] all alone. {h.he} [threw pebbles into "
        'the water|picked at the grass|watched the ants]. "[If nobody wants me|I do not need a party], I will '
        'play by myself," {h.he} said. But playing alone was not much fun. <A [cold|small] wind blew.> {@soon} '
        "{h} [turned around and went|walked slowly] home.",
        "All afternoon {h} sat alone. {h.he} tried to [count the clouds|sing a song|build a tower of stones], but "
        '{h.he} could only think of {f}. "I will go home and [sleep|hide under my blanket]," {h.he} said at last.',
    )
    t.say(
        'It was [dark inside|dark and still inside|dark in there]. {h} opened the door. "Surprise!" shouted '
        "[everyone|{f} and all the others|many voices at once]. There were [lanterns|candles|paper stars] and a "
        '{@big} cake. {f} stood in the middle with a {gift}. "I [could not|was not allowed to] tell you," said '
        '{f}. "It was so hard to keep the secret!"',
        'When {h} came to the door, {h.he} heard a giggle. Then the door flew open. "Happy birthday, {h}!" All '
        '{h.his} friends were there. {f} gave {h.him} a {gift}, tied with the ribbon {h.he} had seen. "[We were '
        'busy making this|This is why we were so busy]," {f} said.',
    )
    t.aside(
        '{h} [laughed and cried|cried a little and laughed a lot] at the same time. "I thought you forgot me," '
        '{h.he} said. "[Never|How could we|Forget you? Never]!" said {f}.',
        "{h} blew out the candles. {h.he} did not [make|need] a wish, because it had already come true.",
        "They danced and sang and ate [until the moon came up|until their tummies were full]. {h} wore a smile and "
        "cake crumbs [all evening|to bed].",
    )


def helping_grandpa(t: TemplateFiller) -> None:
    """A small helper finds the one thing that only somebody small can do."""
    t.child("h")
    t.elder("g")
    t.row(
        "job",
        rows(
            """
            job; tool; part; where; done
            fix the old clock; screwdriver; tiny wheel; rolled under the heavy cupboard; The clock said, "Tick, tock," and then, "[Cuckoo|Ding, dong]!"
            mend the fence; hammer; last nail; fell through a crack in the porch; The fence stood straight again, and no goat could get out.
            paint the boat; brush; lid of the paint; rolled under the boat; The boat shone {@color} in the sun.
            build a bird house; saw; little round door knob; fell down behind the bench; That same week, two wrens moved in.
            fix the bicycle; wrench; smallest screw; bounced under the shed; The wheels went round with a happy hum.
            bake bread; rolling pin; key to the pantry; slipped behind the stove; The whole kitchen smelled of warm bread.
            """
        ),
    )
    t.begin(
        "[loved to visit|liked to help|spent every Saturday with] {h.his} {g.kind}",
        '"Can I help?" asked {h}. {h.he} was a {@little} {h.kind}, and {h.he} asked it every time {h.he} visited {g}.',
    )
    t.say(
        "{@day}, {g} wanted to {job}. {g.he} had a {job.tool} and [a cup of tea|an old apron|a pencil behind "
        '{g.his} ear]. "Can I help?" asked {h}. {h.he} tried to lift the {job.tool}, but it was too [heavy|big]. '
        "{h.he} tried to [hold|carry] the box, and everything fell out.",
        "{@day}, they were going to {job}. {h} wanted to do everything at once. {h.he} [dropped|spilled] [the "
        'box|a cup of water|the tea], and then {h.he} got in the way. "[Careful|Slowly|One thing at a time], my '
        '[dear|treasure|little one]," said {g}.',
    )
    t.go_on(
        '"I am too small," {h} sighed. "I am no help at all."',
        '{h} sat down on [the step|an old bucket|a box]. "I wish I was big," {h.he} said.',
        "{h} felt {@sad}. Big people could do things, and {h.he} could not.",
    )
    t.say(
        "[Then something went wrong|All went well until they were almost done|They had nearly finished]. "
        "[Plink|Clink|Plop|Ping]! The {job.part} {job.where}. {g} got down on {g.his} knees and reached for it. "
        '{g.his} arm was too [thick|long and stiff], and {g.his} back [hurt|was sore]. "{@ohno}," said {g}. '
        '"[Without that we cannot finish|We need that|Now we can\'t go on]."',
        '"Oh, bother!" said {g} suddenly. The {job.part} {job.where}. {g} tried to get it with a stick. {g.he} '
        'tried with a [broom|spoon]. It was no [use|good]. "My [hands|fingers] are just too [big|thick|old]," '
        "{g} said.",
    )
    t.say(
        '"My hand is small!" said {h}. {h.he} lay down flat on {h.his} tummy and [reached|stretched] into the '
        "dark. It was [dusty|dark|cold in there], and a [spider|beetle|tiny bug|cricket] ran [by|away|over {h.his} "
        'thumb]. {h} stretched {h.his} [fingers|arm] [as far as they would go|a little more|and wiggled]. "I have '
        'it!" {h.he} {@cried}.',
        '{h} jumped up. "[Let me try|May I try|I can do it]!" {h} said. {h.he} [wriggled|crawled] in like a '
        "[worm|mouse] until only {h.his} shoes stuck out. A moment later {h.he} came out with [dust in {h.his} "
        "hair|a cobweb on {h.his} nose] and held up the {job.part}.",
    )
    t.aside(
        '"Well done!" said {g}. "I could not have done it without you."',
        '{g} clapped {g.his} hands. "Small hands are the best hands for some jobs," {g.he} said.',
    )
    t.say(
        "{job.done} {h} felt as tall as a [house|tree|giraffe].",
        "{job.done}",
        "[At last they were done|Soon the work was done|Then {g} and {h} were done]. {job.done}",
    )
    t.aside(
        '{g} wrote on the wall with a pencil, "Made by {g} and {h}."',
        '"What shall we do next week?" asked {g}. {h} already had [ten|a hundred] ideas.',
        "Then they sat side by side and ate {@treat}, and {h} got the biggest [piece|plate|share].",
    )


def mended_toy(t: TemplateFiller) -> None:
    """An old toy is traded for a new one in the heart, and then missed; it is mended and given its place."""
    t.child("h")
    t.neighbor("n")
    t.row(
        "old",
        rows(
            """
            old; broke; new; fault
            wooden horse; lost a leg; racing car with lights; ran out of power
            tin drummer; could not turn its arms any more; robot that talked; said the same three words again and again
            music box; would not sing; radio; only made a buzzing noise
            little train; lost a wheel; flying toy; flew up on the roof and stayed there
            spinning top; had a bent point; puzzle with lights; went dark after one day
            wooden duck on wheels; had a broken string; plastic dinosaur; was too sharp to hug
            puppet; had tangled strings; game in a shiny box; was over in two minutes
            """
        ),
    )
    t.begin(
        "[had an old {old}|loved an old {old}|played every day with an old {old}]",
        "High on a shelf stood an old {old}. It belonged to a {h.kind} named {h}.",
    )
    t.aside(
        "It [had been|was once] {h.his} {mom}'s, long ago. <The paint was [almost gone|thin], but it had a "
        "friendly look.>",
        "Its {@color} paint was [scratched|worn], and {h} knew every scratch.",
    )
    t.say(
        '{@day}, the {old} {old.broke}. "[It is only an old thing|Never mind]," said {h}, and {h.he} put it in a '
        "box. For {h.his} birthday {h} got a {old.new}. It was [shiny|bright] and loud, and {h} forgot the {old}.",
        "{@day}, something sad happened. The {old} {old.broke}. {h} [cried|felt {@sad}] at first. Then {h.his} "
        "uncle brought a new {old.new}, and the {old} went into a dark [drawer|box|cupboard].",
    )
    t.say(
        "But the {old.new} {old.fault}. {h} pushed it away. It was [raining|evening|a gray day], and {h.he} "
        'thought of the {old}. {h.he} [took|dug] it out of the [dark|dust]. "I am sorry," {h.he} {@whispered}. '
        '"I left you all alone."',
        "After a week, the {old.new} {old.fault}. It was no fun. {h} [remembered|thought of] the {old} and all the "
        "games they had played. {h.he} ran to find it. There it lay, covered with dust. {h} [wiped|blew] the dust "
        "away.",
    )
    t.say(
        "Next door lived {n}, who could mend [anything|clocks and shoes and chairs]. {h} knocked at the door. "
        '"[Please, can you help my friend|Can you mend this]?" {h.he} asked. {n} put on {n.his} glasses and '
        'looked for a long time. "Yes," {n.he} said, "if you will [hold the lamp|hand me the tools|be my '
        'helper]."',
        "{h} put the {old} into {h.his} [basket|bag] and carried it to {n}, who had a little [workshop|shop full "
        'of tools]. "Oh, they do not make them like this now," said {n}. "[Sit down|Come in]. We will do it '
        'together."',
    )
    t.go_on(
        "They used [glue|a drop of oil], a [bit of wire|new screw|piece of string], and [a lot of|much] patience.",
        "{h} held the light, and {n} worked with {n.his} [quick|careful] fingers. Tap, tap, twist. It was done!",
    )
    t.say(
        "The {old} worked again. It was still old, and it still had scratches. But now {h} knew [what it was "
        "worth|that old friends are the best friends], and {h.he} put it [beside {h.his} bed|on the best shelf], "
        "where it could see the moon.",
        "{h} hugged the {old} all the way home. The {old.new} got [a place on the shelf|a new home with a cousin], "
        "but the {old} [slept on {h.his} pillow|went with {h} everywhere] from that day on.",
        '"[What do I owe you|How can I pay you]?" asked {h}. "Just [play with it|be good to it]," said {n}. '
        "And {h} did, [that day and every day|until {h.he} was very big].",
    )


def one_cake(t: TemplateFiller) -> None:
    """Two want the bigger piece; a clever rule, or a hungry guest, settles it."""
    people = t.chance(0.6)
    t.let(cake="[cherry|honey|lemon|chocolate|apple|carrot|plum|strawberry] [cake|pie|tart]")
    if people:
        t.child("h")
        t.child("f")
        t.let(tie="{f.sib}")
        t.begin(
            "[had a {tie} named {f}|shared a room with {h.his} {tie} {f}|liked sweet things best of all]",
            "There was one {cake} on the table, and there were two hungry children. Their names were {h} and {f}.",
        )
    else:
        t.animal(
            "h",
            rows(
                """
                kind; look; home; food; went
                mouse; round ears; in a hole behind a kitchen wall; cheese; scurried
                bear cub; fuzzy brown fur; in a warm cave; honey; padded
                piglet; a curly tail; in a small straw house; corn; trotted
                raccoon; a ringed tail; in an old log; berries; scampered
                kitten; white paws; in a cottage; fish; padded
                bunny; floppy ears; in a burrow; carrots; hopped
                """
            ),
        )
        t.add("f", t._name(("Nod", "Tippy", "Jinx", "Perky", "Squirt")), t.slots["h.kind"], t.slots["h.he"])
        t.let(tie="{f.sib}")
        t.begin("[had a {tie} named {f}|lived with {h.his} {tie} {f}]")
    t.say(
        "{@day}, their {mom} baked a {cake}. [The smell went all through the house|It smelled wonderful]. There "
        'was [one piece|just one piece] left, and both of them wanted it. "I am [older|bigger]," said {h}. "I '
        'am hungrier," said {f}.',
        '{@day}, an aunt sent them a {cake} in a {@color} box. "I will cut it," said {h}. {h.he} cut one very '
        'big piece and one very small piece, and took the big one. "That is not fair!" {@cried} {f}.',
    )
    t.aside(
        "They [argued|shouted] [so long|so loudly] that the {cake} [got cold|almost fell off the table].",
        "{f} stamped {f.his} foot. {h} [folded {h.his} arms|stuck out {h.his} tongue].",
        "",
    )
    end = t.one_of(("rule", "guest", "stolen"))
    if end == "rule":
        t.say(
            'Their {mom} came in. "I know a rule," she said. "One of you cuts, and the other one chooses." {h} '
            "picked up the knife. {h.he} thought about it. If one piece was bigger, {f} would take it! So {h} cut "
            "very, very carefully, right in the middle.",
            '"Here is how we do it," said their {mom}. "{h}, you cut the {cake} again. {f}, you may choose '
            'first." {h} [measured with a spoon|looked from the left and from the right]. Then {h.he} made the '
            "two pieces exactly the same.",
        )
        t.aside(
            '{f} looked at both pieces for a long time and {@laughed}. "I cannot tell which one is bigger!"',
            '"They are twins!" said {f}.',
        )
        t.say(
            "They [sat on the steps|climbed on the bench] and ate. {@yum} From then on they cut everything that "
            "way, even [the last grape|one pea].",
            "The {cake} tasted just right, because nobody had to be {@angry}. <{@yum}>",
        )
    elif end == "guest":
        t.neighbor("n") if people else t.creature("n", "old [badger|goat|turtle]")
        t.say(
            'Knock, knock. {^n} stood at the door. <{n.he} looked [cold|tired and thin].> "[I have walked a long '
            'way|I am sorry to bother you]. [Do you have a bite to eat|It smells so good in here]?" {h} looked at '
            "{f}. {f} looked at the {cake}.",
        )
        t.go_on(
            "Without a word {h} cut the {cake} in three. {n} got the [first|biggest] piece.",
            '"Come in," they both said. And they put the whole piece in front of {n}.',
        )
        t.say(
            "{n} ate every crumb and told them [funny stories|a tale about a whale and a teapot] until they "
            "{@laughed} out loud. The next day there was a [basket of pears|jar of jam|bag of nuts] at the door, "
            "enough for [everyone|ten]. {h} and {f} [shared it without one cross word|did not even count who got "
            "more].",
            '"That was the best {cake} of my life," said {n} with wet eyes. {h} and {f} had [less cake than '
            "before|only crumbs left], but somehow they felt [full|warm inside].",
        )
    else:
        t.creature("n", "[crow|dog|goat|goose]", "it")
        t.say(
            "While they were [arguing|busy shouting], {n} [came in through the open door|put its head in at the "
            "window]. Snap, gulp, gone! When {h} and {f} turned around, there was only an empty plate and {n} with "
            "cream on its face.",
            "Neither of them was watching the {cake}. But {n} was. It [sneaked|crept] in, and in three bites the "
            "{cake} was [gone|no more].",
        )
        t.aside(
            '"{@ohno}!" said {f}. "[Half would have been nice|Now nobody has any]."',
            "{h} and {f} stared with open mouths.",
        )
        t.say(
            "Then {h} began to laugh, and {f} laughed too. They [got out the flour|asked their {mom} for eggs and "
            "sugar] and baked a new one together. This time they shared it before anyone could [come in|argue], "
            "and they kept the [door|window] shut.",
            'They had nothing to fight about any more. "Next time we share quickly," said {h}. "[Very '
            'quickly|In one second]," said {f}. And the next time, they did.',
        )


def new_baby(t: TemplateFiller) -> None:
    """A baby cries and cries; the big brother or sister is the one who finds out what helps."""
    t.child("h")
    t.let(babe="[Ollie|Teo|Robin|Jo|Mika]")
    t.row(
        "fun",
        rows(
            """
            fun; did
            a silly song; sang a silly song about a [frog|duck|pig] in a [hat|boat|bathtub]
            a funny face; puffed out {h.his} cheeks, crossed {h.his} eyes, and wiggled {h.his} ears
            a shadow on the wall; made a [rabbit|bird|dog] of shadow on the wall with {h.his} hands
            a sneeze; [got dust in {h.his} nose|smelled the powder] and sneezed, "Achoo!"
            a dance; danced like a [chicken|penguin|bear], with {h.his} elbows flapping
            a hat; put a [sock|bowl|diaper] on {h.his} head for a hat and bowed
            """
        ),
    )
    t.begin(
        "[was waiting for a new baby|was going to have a baby in the house|could not wait to see the new baby]",
        '"When is the baby coming?" {h} asked every [morning|day|evening]. {h.he} was a {h.kind} of {@years}, '
        "and {h.he} was tired of waiting.",
        trait="good|kind|funny|lively|quiet",
    )
    t.say(
        "Then the baby came, and it was called {babe}. {babe} was very small and very loud. {h} wanted to play "
        '[ball|trains|hide and seek], but the baby could only sleep and cry. Everyone was busy with {babe}. "Not '
        'now, {h}," said {h.his} {mom}. "[Later|Soon|In a minute], {h}," said {h.his} {dad}.',
        'At last the baby came home, wrapped in a {@color} blanket. "This is {babe}," said {h.his} {mom}. {h} '
        "had thought that a baby would [play|be more fun]. But {babe} only cried, and nobody had time to read {h} "
        "a story.",
    )
    t.aside(
        "{h} felt {@sad} and a bit {@angry}.",
        '"Can we give it back?" {h} asked. Nobody laughed.',
        "{h} went to {h.his} room and [shut the door|sat in the closet].",
    )
    t.say(
        "{@day}, {babe} cried and cried. {h.his} {dad} walked up and down with the baby. {h.his} {mom} tried a "
        "bottle, a blanket, and [a rattle|a toy]. [Nothing helped|It did not help|It was no good]. Then {h} came "
        "in. {h.he} {fun.did}.",
        "{@night}, the baby would not sleep. {h.his} {mom} was tired. {h.his} {dad} was even more tired. {h} "
        "climbed out of bed and looked into the crib. {babe} was red from crying. So {h} {fun.did}.",
    )
    t.go_on(
        "[The crying stopped|It became quiet|{babe} stopped crying]. {babe} looked at {h} with big, round eyes. "
        "Then the baby's mouth went up at the corners.",
        '{babe} stopped in the middle of a "Waah" and stared. And then {babe} laughed! It was a very first laugh.',
    )
    t.say(
        '"[How did you do that|Did you see that]?" {@whispered} {h.his} {mom}. {h} stood up tall. "[Babies are '
        'easy|It was easy]," {h.he} said. "You only need {fun}." <And {h.he} did it again.>',
        '"{babe} likes you best of all," said {h.his} {dad}. {h} felt {@proud}. {h.he} put one finger into the '
        "tiny hand, and the tiny hand held on tight.",
    )
    t.aside(
        "That night there was time for a story, and {h} [read it|told it] to {babe}.",
        '"When you are bigger," {h} told the baby, "I will teach you [ball|trains|everything]."',
        "Now, when {babe} cries, everyone calls for {h}.",
    )


def bath_time(t: TemplateFiller) -> None:
    """A muddy hero will not have a bath, until somebody makes it a voyage."""
    if t.chance(0.5):
        t.child("h")
    else:
        t.animal(
            "h",
            rows(
                """
                kind; look; home; food; went
                piglet; a curly tail; in a little house with a mud puddle at the door; corn; trotted
                puppy; a tail that never stopped wagging; in a house with a big yard; biscuits; bounded
                elephant calf; big, flappy ears; beside a wide river; bananas; marched
                bear cub; fuzzy brown fur; in a den near a lake; honey; padded
                """
            ),
        )
    t.parent("p")
    t.let(
        mess="[mud|paint|jam|flour|honey|chocolate]",
        toy="[cork boat|rubber duck|wooden whale|tin cup|paper hat|sponge]",
    )
    t.begin(
        "[did not like baths|hated soap|ran away when it was bath time]",
        '"No, no, no!" said {h}. "I do not want a bath!"',
    )
    t.say(
        "{@day}, {h} came home covered with {mess}. There was {mess} on {h.his} [nose|ears|knees] and {mess} on "
        '{h.his} [tummy|chin|back]. "Time for a bath," said {h.his} {p}. "{@ohno}," said {h}, and {h.he} hid '
        "[behind the sofa|under the bed|in the closet].",
        "{@day}, {h} played all day and got {mess} everywhere. {h.he} left {mess} on the door and {mess} on the "
        'floor. "Into the tub!" said {h.his} {p}. But {h} ran [round the table|up the stairs|out of the door].',
    )
    t.aside(
        '"Water is too wet," {h.he} said.',
        '"Soap [stings|gets in my eyes]," {h.he} said, "and it smells of [flowers|lemons]."',
        '"I like to be dirty," {h.he} said. "It keeps me warm."',
        "",
    )
    t.say(
        "That evening {h} wanted a hug, but {h.he} [stuck to the chair|left spots on everything]. {h} wanted to "
        "[cuddle the cat|get into bed], but the cat [sneezed and walked off|took one look and fled]. And soon {h} "
        "began to itch. {h.he} scratched and scratched.",
        "When {h} sat down, [{h.he} stuck to the chair|a fly landed on {h.his} nose]. Then two more flies came. "
        "Then {h} began to itch, [first a little, then a lot|all over].",
    )
    t.say(
        '{h.his} {p} did not scold. {p.he} put a {toy} into the tub and said, "The captain is missing. Who will '
        'sail across the [Soapy Sea|Bubble Ocean]?" {h} peeked in. The bubbles looked like '
        '[mountains|snow|clouds]. "I am the captain," said {h}, and in {h.he} went. Splash!',
        'Then {h.he} heard {h.his} {p} in the bathroom. "Land ahoy!" {p.he} called. "But where is the crew?" '
        "{h} {@looked} around the door. A {toy} was sailing between [hills|islands] of white foam. {h} forgot all "
        "about {h.his} rule and jumped in.",
    )
    t.go_on(
        "{h.he} [made big waves|chased a whale|found treasure under the washcloth], and the {mess} floated away "
        "without any trouble.",
        "{h} [made a beard of bubbles|blew bubbles at the wall|sang a sailor song], and nobody even noticed the soap.",
    )
    t.say(
        '"Time to come out," said {h.his} {p}. "No, no, no!" said {h}. "I do not want to get out!"',
        'Clean and warm, {h} was wrapped in a [soft|fluffy|{@color}] towel and got {h.his} hug at last. "The '
        'captain smells of [roses|lemons|apples]," said {h.his} {p}.',
        "After that, {h} still got dirty every day. <It was {h.his} favorite hobby.> But at bath time {h.he} was "
        "always the first on board.",
    )


PLOTS = (
    lost_toy,
    broken_vase,
    night_noise,
    crayon_argument,
    lost_tooth,
    surprise_party,
    helping_grandpa,
    mended_toy,
    one_cake,
    new_baby,
    bath_time,
)
